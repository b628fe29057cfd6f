import { computed, type ComputedRef, watch } from 'vue'

import { type Loaded, useLoad } from '@/composables/useLoad'
import { useQuery } from '@/composables/useQuery'

export interface PageOf<T> {
  items: T[]
  total: number
}

/** What a `ListTable` shows. */
export interface Listed<T> extends Loaded<{ items: T[]; total?: number }> {
  /** Which page, and how many rows it has; a list without it has pages of another kind. */
  filters?: Record<'page' | 'per_page', string>
  /** Whether any filter differs from its default: an empty list then means "nothing matches". */
  filtered: ComputedRef<boolean>
  clear: () => void
}

export interface List<T, K extends string> extends Listed<T> {
  data: Loaded<PageOf<T>>['data']
  filters: Record<K | 'page' | 'per_page', string>
}

/** A paged list whose filters and page are in the address; it loads again when they change. */
export function useList<T, K extends string>(
  defaults: Record<K, string>,
  load: (filters: Record<K, string | undefined>, page: { page: number; per_page: number }) => Promise<PageOf<T>>,
): List<T, K> {
  const names = Object.keys(defaults) as K[]
  const filters = useQuery({ ...defaults, page: '1', per_page: '20' } as Record<K | 'page' | 'per_page', string>)
  const whole = (text: string, most: number) => Math.min(most, Math.max(1, Math.trunc(Number(text)) || 1))

  const loaded = useLoad(() =>
    load(Object.fromEntries(names.map((name) => [name, filters[name] || undefined])) as Record<K, string | undefined>, {
      page: whole(filters.page, 100_000),
      per_page: whole(filters.per_page, 200),
    }),
  )
  watch(
    () => [...names, 'page' as const, 'per_page' as const].map((name) => filters[name]).join('\n'),
    () => void loaded.reload(),
  )
  const filtered = computed(() => names.some((name) => filters[name] !== defaults[name]))
  const clear = () => names.forEach((name) => (filters[name] = defaults[name]))
  return { ...loaded, filters, filtered, clear }
}

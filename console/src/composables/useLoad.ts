import { type Ref, ref, shallowRef } from 'vue'

import { ApiError } from '@/api/problem'

export interface Loaded<T> {
  data: Ref<T | undefined>
  /** Why there is no data. What was there before stays when a repetition fails. */
  error: Ref<ApiError | undefined>
  loading: Ref<boolean>
  /** Load again; the answer of an older call never replaces that of a newer one. */
  reload: () => Promise<void>
}

/** Something that a page shows, and the states around it. It is loaded at once unless `lazy`. */
export function useLoad<T>(load: () => Promise<T>, options: { lazy?: boolean } = {}): Loaded<T> {
  const data = shallowRef<T>()
  const error = shallowRef<ApiError>()
  const loading = ref(false)
  let latest = 0

  async function reload() {
    const mine = ++latest
    loading.value = true
    try {
      const fresh = await load()
      if (mine !== latest) return
      data.value = fresh
      error.value = undefined
    } catch (cause) {
      if (mine === latest) error.value = ApiError.from(cause)
    } finally {
      if (mine === latest) loading.value = false
    }
  }

  if (!options.lazy) void reload()
  return { data, error, loading, reload }
}

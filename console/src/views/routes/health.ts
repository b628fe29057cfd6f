/** How targets do, as gateways report it: asked for again every few seconds while the page is looked at. */
import { computed, type ComputedRef, onBeforeUnmount } from 'vue'

import { getTargetHealth } from '@/api/generated'
import { call } from '@/api/problem'
import { useLoad } from '@/composables/useLoad'
import { useSession } from '@/stores/session'
import type { Health } from '@/views/routes/spec'

const EVERY = 5000

export interface LiveHealth {
  /** Undefined: not known, or not for this person. */
  health: ComputedRef<Health | undefined>
  /** How many gateways report. */
  gateways: ComputedRef<number | undefined>
}

export function useHealth(): LiveHealth {
  if (!useSession().may('usage:read')) return { health: computed(() => undefined), gateways: computed(() => undefined) }
  const { data, reload } = useLoad(() => call(getTargetHealth()))
  const timer = setInterval(() => document.hidden || void reload(), EVERY)
  onBeforeUnmount(() => clearInterval(timer))
  return {
    health: computed(() => data.value && new Map(data.value.items.map((target) => [target.id, target]))),
    gateways: computed(() => data.value?.gateways),
  }
}

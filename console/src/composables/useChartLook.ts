import { computed } from 'vue'

import { lookOf } from '@/charts/look'
import { usePreferences } from '@/stores/preferences'

/** Colours of charts in the theme that is on. */
export function useChartLook() {
  const preferences = usePreferences()
  return computed(() => {
    void preferences.dark // puts its class on the page, which changes the tokens, before anything is drawn again
    const style = getComputedStyle(document.documentElement)
    return lookOf((name) => style.getPropertyValue(name).trim())
  })
}

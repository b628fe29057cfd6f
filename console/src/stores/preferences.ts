import { defineStore } from 'pinia'
import { computed, ref, watchEffect } from 'vue'

export const LOCALES = ['zh-CN', 'en'] as const
export type Locale = (typeof LOCALES)[number]
export const THEMES = ['auto', 'light', 'dark'] as const
export type Theme = (typeof THEMES)[number]

const KEY = 'tunegate.preferences'

function stored(): { locale?: Locale; theme?: Theme; folded?: boolean } {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? '{}') ?? {}
  } catch {
    return {} // written by something else: the defaults are as good
  }
}

/** Language, theme and the state of the menu, kept in this browser. */
export const usePreferences = defineStore('preferences', () => {
  const from = stored()
  const locale = ref<Locale>(
    LOCALES.find((known) => known === from.locale) ?? (navigator.language.startsWith('zh') ? 'zh-CN' : 'en'),
  )
  const theme = ref<Theme>(THEMES.find((known) => known === from.theme) ?? 'auto')
  const folded = ref(from.folded === true)
  const system = window.matchMedia('(prefers-color-scheme: dark)')
  const systemDark = ref(system.matches)
  system.addEventListener('change', (event) => (systemDark.value = event.matches))
  const dark = computed(() => theme.value === 'dark' || (theme.value === 'auto' && systemDark.value))

  watchEffect(() => {
    document.documentElement.classList.toggle('dark', dark.value)
    document.documentElement.lang = locale.value
    localStorage.setItem(KEY, JSON.stringify({ locale: locale.value, theme: theme.value, folded: folded.value }))
  })
  return { locale, theme, dark, folded }
})

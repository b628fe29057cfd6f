/** Texts: locales/<language>/<feature>.json, loaded when the language is first used. */
import { watch } from 'vue'
import { createI18n } from 'vue-i18n'

import type { Locale } from '@/stores/preferences'

type Texts = Record<string, unknown>
const files = import.meta.glob<Texts>('./locales/*/*.json', { import: 'default' })

export const i18n = createI18n({
  legacy: false,
  locale: 'en' as Locale,
  fallbackLocale: false,
  messages: {} as Record<Locale, Record<string, Texts>>,
  numberFormats: {},
  missingWarn: import.meta.env.DEV,
})

async function load(locale: Locale): Promise<void> {
  if (!i18n.global.availableLocales.includes(locale)) {
    const own = Object.entries(files).filter(([path]) => path.startsWith(`./locales/${locale}/`))
    const texts = await Promise.all(own.map(async ([path, file]) => [path.split('/').pop()!.replace('.json', ''), await file()]))
    i18n.global.setLocaleMessage(locale, Object.fromEntries(texts))
  }
  i18n.global.locale.value = locale
}

/** Follow the chosen language; resolves when its texts are there. */
export function setupI18n(locale: () => Locale): Promise<void> {
  watch(locale, load)
  return load(locale())
}

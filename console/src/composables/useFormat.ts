import { computed } from 'vue'

import { usePreferences } from '@/stores/preferences'

const NANO = 1e9

/** Numbers, money and times in the chosen language. */
export function useFormat() {
  const preferences = usePreferences()
  const formats = computed(() => {
    const locale = preferences.locale
    return {
      whole: new Intl.NumberFormat(locale, { maximumFractionDigits: 0 }),
      decimal: new Intl.NumberFormat(locale, { maximumFractionDigits: 1 }),
      short: new Intl.NumberFormat(locale, { notation: 'compact', maximumFractionDigits: 1 }),
      money: new Intl.NumberFormat(locale, { minimumFractionDigits: 2, maximumFractionDigits: 2 }),
      fineMoney: new Intl.NumberFormat(locale, { maximumSignificantDigits: 3 }),
      percent: new Intl.NumberFormat(locale, { style: 'percent', maximumFractionDigits: 1 }),
      time: new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'medium' }),
      day: new Intl.DateTimeFormat(locale, { dateStyle: 'medium' }),
      ago: new Intl.RelativeTimeFormat(locale, { numeric: 'auto' }),
    }
  })

  const count = (value: number) => formats.value.whole.format(value)
  const short = (value: number) => formats.value.short.format(value)
  const percent = (value: number) => formats.value.percent.format(value)
  /** Nano-units of the account currency as money; small sums keep three digits that say something. */
  const money = (nano: number) => {
    const value = nano / NANO
    return value !== 0 && Math.abs(value) < 0.1 ? formats.value.fineMoney.format(value) : formats.value.money.format(value)
  }
  const time = (iso: string | null | undefined) => (iso ? formats.value.time.format(new Date(iso)) : '–')
  const day = (iso: string | null | undefined) => (iso ? formats.value.day.format(new Date(iso)) : '–')
  const ago = (iso: string | null | undefined, now = Date.now()) => {
    if (!iso) return '–'
    const seconds = (new Date(iso).getTime() - now) / 1000
    const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? (['second', 1] as const)
    return formats.value.ago.format(Math.round(seconds / size), unit)
  }
  const ms = (value: number | null | undefined) =>
    value === null || value === undefined
      ? '–'
      : value >= 1000
        ? `${(value / 1000).toFixed(value >= 10_000 ? 0 : 1)} s`
        : `${Math.round(value)} ms`
  const size = (bytes: number) => inBytes(bytes, formats.value.decimal)
  return { count, short, percent, money, time, day, ago, ms, size }
}

/** A size in kB, MB, … of 1000 each: what is the same in every language, unlike a language's own short numbers. */
export function inBytes(bytes: number, format: Intl.NumberFormat): string {
  const step = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), SIZES.length - 1)
  return `${format.format(bytes / 1000 ** step)} ${SIZES[step]}`
}

const SIZES = ['B', 'kB', 'MB', 'GB', 'TB']

const UNITS = [
  ['year', 31_536_000],
  ['month', 2_592_000],
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
] as const

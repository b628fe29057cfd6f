import { describe, expect, it } from 'vitest'

import { inBytes } from './useFormat'

const told = (bytes: number, locale: string) =>
  inBytes(bytes, new Intl.NumberFormat(locale, { maximumFractionDigits: 1 }))

describe('a size', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1 kB'],
    [36_700, '36.7 kB'],
    [999_999, '1,000 kB'],
    [2_500_000, '2.5 MB'],
    [7_340_000_000, '7.3 GB'],
    [3e15, '3,000 TB'],
  ])('%d is %s in every language', (bytes, text) => {
    for (const locale of ['en', 'zh-CN']) expect(told(bytes, locale)).toBe(text)
  })
})

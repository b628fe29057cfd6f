import { readFileSync } from 'node:fs'

import { describe, expect, it } from 'vitest'

import { lookOf } from './look'

const tokens = readFileSync('src/styles/tokens.css', 'utf8')
const [light, dark] = tokens.split('html.dark').map((part) => new Map([...part.matchAll(/(--[\w-]+):\s*([^;]+);/g)].map((m) => [m[1]!, m[2]!])))

/** WCAG 2 relative luminance of #rrggbb. */
function luminance(colour: string): number {
  const [r, g, b] = [1, 3, 5]
    .map((at) => parseInt(colour.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
}

const contrast = (a: string, b: string) => {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x)
  return (high! + 0.05) / (low! + 0.05)
}

describe('colours of charts', () => {
  it.each([
    ['light', light!],
    ['dark', dark!],
  ])('stand out from the %s surface, and are all different', (_, theme) => {
    const look = lookOf((name) => theme.get(name) ?? `missing ${name}`)
    const drawn = [...look.series, look.rest, look.bad]
    expect(new Set(drawn).size).toBe(drawn.length)
    for (const colour of drawn) expect(contrast(colour, look.surface), colour).toBeGreaterThanOrEqual(3)
    expect(contrast(look.text, look.surface)).toBeGreaterThanOrEqual(4.5)
  })
})

/** The form of a route: its rows, and the settings that the API takes. */
import type { Price, RouteSpec, Shadow, Target } from '@/api/generated'

/** A target in the editor. `id` names its row while it is moved about. */
export interface Row {
  id: number
  endpoint: string
  model: string
  weight: number
  /** Position of its tier, from 0 without gaps. */
  tier: number
  price?: Price
}

export interface RouteFields {
  name: string
  rows: Row[]
  shadow?: Shadow
  /** All other settings, as the API has them; what is not set has its default. */
  rest: Omit<RouteSpec, 'target' | 'shadow'>
  note: string
}

let last = 0
export const newRow = (tier: number): Row => ({ id: ++last, endpoint: '', model: '', weight: 1, tier })

/** Rows by tier, tiers numbered from 0. */
export function fromTargets(targets: readonly Target[]): Row[] {
  const levels = [...new Set(targets.map((target) => target.priority ?? 0))].sort((a, b) => a - b)
  const rows = targets.map((target) => ({
    id: ++last,
    endpoint: target.endpoint,
    model: target.model ?? '',
    weight: target.weight ?? 1,
    tier: levels.indexOf(target.priority ?? 0),
    ...(target.price ? { price: { ...target.price } } : {}),
  }))
  return settled(rows)
}

export function fromSpec(name: string, spec?: RouteSpec): RouteFields {
  const { target = [], shadow, ...rest } = structuredClone(spec ?? { target: [] })
  return { name, rows: spec ? fromTargets(target) : [newRow(0)], shadow: shadow ?? undefined, rest, note: '' }
}

const empty = (value: unknown) => value === undefined || value === null || value === ''

export function toSpec(form: RouteFields): RouteSpec {
  const rest = Object.fromEntries(Object.entries(form.rest).filter(([, value]) => !empty(value)))
  const target = form.rows.map(({ endpoint, model, weight, tier, price }) => ({
    endpoint,
    model,
    weight,
    priority: tier,
    ...(price ? { price } : {}),
  }))
  return { ...rest, target, ...(form.shadow ? { shadow: form.shadow } : {}) } as RouteSpec
}

/** In the order of their tiers, and tiers without a gap. */
function settled(rows: readonly Row[]): Row[] {
  const levels = [...new Set(rows.map((row) => row.tier))].sort((a, b) => a - b)
  return rows.map((row) => ({ ...row, tier: levels.indexOf(row.tier) })).sort((a, b) => a.tier - b.tier)
}

/** One more, at the end of a tier or in a tier of its own. */
export const add = (rows: readonly Row[], tier: number): Row[] => settled([...rows, newRow(tier)])

/** Put a row into a tier, before another row of it or at its end. `tier` may be one more than there are, or -1. */
export function place(rows: readonly Row[], id: number, tier: number, before?: number): Row[] {
  const moved = rows.find((row) => row.id === id)
  if (!moved || before === id) return [...rows]
  const others = rows.filter((row) => row.id !== id)
  const at = others.findIndex((row) => row.id === before)
  const fresh = { ...moved, tier }
  return settled(at < 0 ? [...others, fresh] : [...others.slice(0, at), fresh, ...others.slice(at)])
}

/** One step up: before the row above, or out of the first place of a tier into the tier above (a new one at the top). */
export function raise(rows: readonly Row[], id: number): Row[] {
  const row = rows.find((one) => one.id === id)!
  const tier = rows.filter((one) => one.tier === row.tier)
  const at = tier.indexOf(row)
  if (at > 0) return place(rows, id, row.tier, tier[at - 1]!.id)
  return row.tier > 0 || tier.length > 1 ? place(rows, id, row.tier - 1) : [...rows]
}

/** One step down: behind the row below, or out of the last place of a tier to the front of the tier below. */
export function lower(rows: readonly Row[], id: number): Row[] {
  const row = rows.find((one) => one.id === id)!
  const tier = rows.filter((one) => one.tier === row.tier)
  const at = tier.indexOf(row)
  if (at < tier.length - 1) return place(rows, id, row.tier, tier[at + 2]?.id)
  const below = rows.find((one) => one.tier === row.tier + 1)
  return below || tier.length > 1 ? place(rows, id, row.tier + 1, below?.id) : [...rows]
}

export const remove = (rows: readonly Row[], id: number): Row[] => settled(rows.filter((row) => row.id !== id))

/** Which target is the canary, and how much it gets: the second one of a tier with exactly two. */
export function canaryOf(rows: readonly Row[], tier: number): { id: number; share: number } | undefined {
  const [first, second, ...more] = rows.filter((row) => row.tier === tier)
  if (!first || !second || more.length || !(first.weight + second.weight)) return undefined
  return { id: second.id, share: second.weight / (first.weight + second.weight) }
}

/** Weights of a tier's two targets by which the second one gets so many of a hundred requests. */
export function withCanary(rows: readonly Row[], tier: number, percent: number): Row[] {
  const [first, second] = rows.filter((row) => row.tier === tier)
  return rows.map((row) => (row === first ? { ...row, weight: 100 - percent } : row === second ? { ...row, weight: percent } : row))
}

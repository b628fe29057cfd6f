/** What a route's settings mean, worked out for pictures and forms. */
import type { ExplainedRoute, RouteSpec, Target, TargetHealth } from '@/api/generated'

/** A target as a picture shows it. */
export interface Place {
  endpoint: string
  /** Empty: the model that the client asked for. */
  model: string
  /** Part of its tier's requests, 0 to 1. */
  share: number
  health?: TargetHealth
}

/** A route of the way: the places of each tier, the tier tried first at the front. */
export interface Stage {
  route: string
  tiers: Place[][]
}

export interface Way {
  stages: Stage[]
  /** Name of the route that the way comes back to, which is a mistake. */
  loop?: string
  /** Name of a fallback that is not there. */
  missing?: string
}

/** Shares of weights inside a tier; all 0 if no weight is more. */
export function shares(weights: readonly number[]): number[] {
  const whole = weights.reduce((sum, weight) => sum + weight, 0)
  return weights.map((weight) => (whole ? weight / whole : 0))
}

/** Targets by priority, the lowest first; inside a tier in their order. */
export function tiersOf<T extends { priority?: number }>(targets: readonly T[]): T[][] {
  const levels = [...new Set(targets.map((target) => target.priority ?? 0))].sort((a, b) => a - b)
  return levels.map((level) => targets.filter((target) => (target.priority ?? 0) === level))
}

/** Health by the id that gateways report: endpoint and model, or endpoint and route where the client says the model. */
export type Health = ReadonlyMap<string, TargetHealth>
export const healthOf = (health: Health | undefined, place: { endpoint: string; model?: string }, route: string) =>
  health?.get(`${place.endpoint}/${place.model || route}`)

function stage(route: string, targets: readonly Target[], health?: Health): Stage {
  const tiers = tiersOf(targets).map((tier) => {
    const parts = shares(tier.map((target) => target.weight ?? 1))
    return tier.map((target, at) => ({
      endpoint: target.endpoint,
      model: target.model ?? '',
      share: parts[at]!,
      health: healthOf(health, target, route),
    }))
  })
  return { route, tiers }
}

/** The way of a request from a route's own settings on, by its fallback and that one's. */
export function wayOf(name: string, spec: RouteSpec, others: ReadonlyMap<string, RouteSpec>, health?: Health): Way {
  const stages = [stage(name, spec.target, health)]
  const seen = new Set([name])
  for (let next = spec.fallback; next; next = others.get(next)?.fallback) {
    if (seen.has(next)) return { stages, loop: next }
    const other = others.get(next)
    if (!other) return { stages, missing: next }
    seen.add(next)
    stages.push(stage(next, other.target, health))
  }
  return { stages }
}

/** The way that control explains. */
export function wayExplained(way: readonly ExplainedRoute[], health?: Health): Way {
  return {
    stages: way.map(({ name, targets }) => ({
      route: name,
      tiers: tiersOf(targets.map((target) => ({ ...target, priority: target.tier }))).map((tier) =>
        tier.map(({ endpoint, model, share }) => ({ endpoint, model, share, health: healthOf(health, { endpoint, model }, name) })),
      ),
    })),
  }
}

export type Condition = 'unknown' | 'good' | 'partly' | 'resting'
/** How a target does, by its breakers: all closed, some not, none closed. */
export function condition(health: TargetHealth | undefined): Condition {
  if (!health || !(health.closed + health.half_open + health.open)) return 'unknown'
  if (!health.half_open && !health.open) return 'good'
  return health.closed ? 'partly' : 'resting'
}

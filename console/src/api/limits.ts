/** Limits as a form holds them (absent: unlimited), and as the API has them. */
import type { Limits } from '@/api/generated'

export const LIMITS = ['rpm', 'tpm', 'concurrency'] as const
export type LimitValues = { [limit in (typeof LIMITS)[number]]?: number }

export const fromLimits = (limits?: Limits): LimitValues =>
  Object.fromEntries(LIMITS.map((name) => [name, limits?.[name] ?? undefined]))

export const toLimits = (values: LimitValues): Limits =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined && value !== null))

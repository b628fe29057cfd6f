/** The form of a key, and the bodies that the API takes. */
import type { ApiKey, Budget } from '@/api/generated'
import { fromLimits, type LimitValues, toLimits } from '@/api/limits'

export interface KeyFields {
  name: string
  /** Name of a team, or empty: one's own. */
  owner: string
  enabled: boolean
  expires: Date | null
  /** Names of routes; none: all. */
  models: string[]
  limits: LimitValues
  budgets: Budget[]
  /** Networks, separated by commas or spaces. */
  cidrs: string
  note: string
  /** Whether bodies may be kept where a route does so. */
  logBodies: boolean
}

export function fromKey(key?: ApiKey): KeyFields {
  return {
    name: key?.name ?? '',
    owner: '',
    enabled: key?.enabled ?? true,
    expires: key?.expires_at ? new Date(key.expires_at) : null,
    models: key && !key.models.includes('*') ? [...key.models] : [],
    limits: fromLimits(key?.limits),
    budgets: (key?.budgets ?? []).map((budget) => ({ ...budget })),
    cidrs: key?.cidrs.join(', ') ?? '',
    note: key?.note ?? '',
    logBodies: key?.log_bodies ?? true,
  }
}

export function toBody(form: KeyFields) {
  return {
    expires_at: form.expires?.toISOString() ?? null,
    models: form.models.length ? form.models : ['*'],
    limits: toLimits(form.limits),
    budgets: form.budgets,
    cidrs: form.cidrs.split(/[\s,]+/).filter(Boolean),
    note: form.note,
    log_bodies: form.logBodies,
  }
}

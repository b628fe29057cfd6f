/** What keys did lately, for the small lines of their list and drawer. */
import { type ApiKey, type KeyDays, getDailyUsage } from '@/api/generated'
import { call } from '@/api/problem'

export const DAYS = 30

/** Public name -> its last 30 days. */
export async function usageByKey(keys: Pick<ApiKey, 'public_name'>[]): Promise<Record<string, KeyDays>> {
  if (!keys.length) return {}
  const { items } = await call(getDailyUsage({ query: { key: keys.map((key) => key.public_name), days: DAYS } }))
  return Object.fromEntries(items.map((one) => [one.key, one]))
}

export const sum = (values: number[]) => values.reduce((total, value) => total + value, 0)

/** The moment so many days from now, of a filter in the address; nothing of what is no number of days. */
export function inDays(text: string | undefined, now = Date.now()): string | undefined {
  const days = Number(text)
  return text && days > 0 && days <= 3660 ? new Date(now + days * 86_400_000).toISOString() : undefined
}

export type KeyState = 'active' | 'disabled' | 'revoked' | 'expired'

export function stateOf(key: Pick<ApiKey, 'revoked_at' | 'enabled' | 'expires_at'>, now = Date.now()): KeyState {
  if (key.revoked_at) return 'revoked'
  if (!key.enabled) return 'disabled'
  return key.expires_at && Date.parse(key.expires_at) < now ? 'expired' : 'active'
}

export const STATE_COLOURS = { active: 'success', disabled: 'info', expired: 'warning', revoked: 'danger' } as const

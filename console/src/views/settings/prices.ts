/** Prices as people type and read them. */
import type { Price, PriceCreate } from '@/api/generated'

export const AMOUNTS = ['input', 'cached_input', 'cache_write', 'output', 'reasoning'] as const
export type Amount = (typeof AMOUNTS)[number]

export interface PriceFields {
  kind: 'endpoint' | 'provider'
  /** Of the endpoint or the provider. */
  place: string
  model: string
  amounts: Record<Amount, string>
  /** From when on it counts; null: from now on. */
  from: Date | null
  currency: string
  source: string
}

export const amountsOf = (price?: Price): Record<Amount, string> =>
  Object.fromEntries(AMOUNTS.map((name) => [name, price?.[name] === null || price?.[name] === undefined ? '' : String(Number(price[name]))])) as Record<Amount, string>

export function toCreate(form: PriceFields): PriceCreate {
  const given = AMOUNTS.map((name) => [name, form.amounts[name].trim()] as const).filter(([, amount]) => amount)
  return {
    [form.kind]: form.place,
    model: form.model.trim(),
    price: Object.fromEntries(given),
    currency: form.currency.trim(),
    source: form.source.trim(),
    ...(form.from ? { effective_from: form.from.toISOString() } : {}),
  }
}

/** Models that an endpoint has, for the field where one is typed. */
import { type Route, testEndpoint } from '@/api/generated'
import { call } from '@/api/problem'
import { useSession } from '@/stores/session'

/** Models at an endpoint that routes use already, sorted. */
export function usedAt(endpoint: string, routes: readonly Route[]): string[] {
  const targets = routes.flatMap((route) => route.spec?.target ?? [])
  return [...new Set(targets.filter((target) => target.endpoint === endpoint && target.model).map((target) => target.model!))].sort()
}

export type Suggest = (endpoint: string) => Promise<string[]>

/** Asks each endpoint once what it has, for those who may test it; others, and when it fails, get the models in use. */
export function useModels(routes: () => readonly Route[]): Suggest {
  const mayTest = useSession().may('endpoints:test')
  const asked = new Map<string, Promise<string[]>>()
  const ask = (name: string) =>
    call(testEndpoint({ path: { name } })).then(
      (result) => result.models,
      () => [], // the field takes any text; the endpoint's own page says what is wrong
    )
  return async (endpoint) => {
    if (!endpoint) return []
    if (mayTest && !asked.has(endpoint)) asked.set(endpoint, ask(endpoint))
    const models = (await asked.get(endpoint)) ?? []
    return [...new Set([...usedAt(endpoint, routes()), ...models])]
  }
}

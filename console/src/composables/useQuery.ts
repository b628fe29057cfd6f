import { computed, reactive } from 'vue'
import { useRoute, useRouter } from 'vue-router'

/**
 * Filters that live in the address: a reload, a link and the back button keep them. Each is a string; one that has its
 * default is not in the address. A change of any filter but `page` goes back to the first page.
 */
export function useQuery<K extends string>(defaults: Record<K, string>): Record<K, string> {
  const route = useRoute()
  const router = useRouter()
  let pending: Record<string, string | undefined> | undefined

  function put(name: K, value: string) {
    const first = !pending
    pending = { ...pending, [name]: value === defaults[name] || !value ? undefined : value }
    if (name !== 'page' && 'page' in defaults) pending.page = undefined
    if (first) {
      // several changes of one moment become one step
      void Promise.resolve().then(() => {
        const query = { ...route.query, ...pending }
        pending = undefined
        return router.replace({ query, hash: route.hash })
      })
    }
  }

  const entries = (Object.keys(defaults) as K[]).map((name) => [
    name,
    computed({
      get: () => {
        const value = route.query[name]
        return (Array.isArray(value) ? value[0] : value) ?? defaults[name]
      },
      set: (value) => put(name, value ?? ''),
    }),
  ])
  return reactive(Object.fromEntries(entries)) as Record<K, string>
}

import { flushPromises, mount } from '@vue/test-utils'
import { describe, expect, it } from 'vitest'
import { defineComponent } from 'vue'
import { createMemoryHistory, createRouter } from 'vue-router'

import { useQuery } from './useQuery'

async function page(path: string) {
  let filters!: Record<'search' | 'state' | 'page', string>
  const router = createRouter({ history: createMemoryHistory(), routes: [{ path: '/', component: { template: '' } }] })
  const component = defineComponent({
    setup: () => {
      filters = useQuery({ search: '', state: 'active', page: '1' })
      return () => null
    },
  })
  await router.push(path)
  mount(component, { global: { plugins: [router] } })
  return { filters, router }
}

describe('useQuery', () => {
  it('reads the address, and its defaults where the address says nothing', async () => {
    const { filters } = await page('/?search=x&search=y&page=3')
    expect({ ...filters }).toEqual({ search: 'x', state: 'active', page: '3' })
  })

  it('writes changes of one moment at once, without defaults, and goes back to the first page', async () => {
    const { filters, router } = await page('/?page=3&other=kept')
    filters.search = 'a b'
    filters.state = 'active'
    await flushPromises()
    expect(router.currentRoute.value.query).toEqual({ search: 'a b', other: 'kept' })
    filters.page = '2'
    await flushPromises()
    expect(router.currentRoute.value.query).toEqual({ search: 'a b', page: '2', other: 'kept' })
  })
})

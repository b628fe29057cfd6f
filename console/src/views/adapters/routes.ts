import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/adapters',
    name: 'adapters',
    meta: { permissions: ['training:list'], nav: { group: 'build', order: 60, icon: 'MagicStick' } },
    component: () => import('./AdapterList.vue'),
  },
  {
    path: '/adapters/:name',
    name: 'adapter',
    meta: { permissions: ['training:list'], parent: 'adapters' },
    component: () => import('./AdapterPage.vue'),
  },
] satisfies RouteRecordRaw[]

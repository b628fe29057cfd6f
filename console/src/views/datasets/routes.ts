import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/datasets',
    name: 'datasets',
    meta: { permissions: ['training:list'], nav: { group: 'build', order: 40, icon: 'Coin' } },
    component: () => import('./DatasetList.vue'),
  },
  {
    path: '/datasets/:name',
    name: 'dataset',
    meta: { permissions: ['training:list'], parent: 'datasets' },
    component: () => import('./DatasetPage.vue'),
  },
] satisfies RouteRecordRaw[]

import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/overview',
    name: 'overview',
    meta: { nav: { group: 'use', order: 10, icon: 'Odometer' } },
    component: () => import('./OverviewPage.vue'),
  },
] satisfies RouteRecordRaw[]

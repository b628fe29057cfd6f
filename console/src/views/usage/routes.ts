import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/usage',
    name: 'usage',
    meta: { permissions: ['usage:own'], nav: { group: 'govern', order: 30, icon: 'DataAnalysis' } },
    component: () => import('./UsagePage.vue'),
  },
] satisfies RouteRecordRaw[]

import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/keys',
    name: 'keys',
    meta: { permissions: ['keys:list'], nav: { group: 'use', order: 30, icon: 'Key' } },
    component: () => import('./KeyList.vue'),
  },
] satisfies RouteRecordRaw[]

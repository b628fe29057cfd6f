import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/teams',
    name: 'teams',
    meta: { permissions: ['teams:own'], nav: { group: 'govern', order: 20, icon: 'UserFilled' } },
    component: () => import('./TeamList.vue'),
  },
  {
    path: '/teams/:name',
    name: 'team',
    meta: { permissions: ['teams:own'], parent: 'teams' },
    component: () => import('./TeamPage.vue'),
  },
] satisfies RouteRecordRaw[]

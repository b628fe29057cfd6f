import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/requests',
    name: 'requests',
    meta: { permissions: ['usage:own'], nav: { group: 'govern', order: 35, icon: 'Files' } },
    component: () => import('./RequestList.vue'),
  },
  {
    path: '/requests/:id',
    name: 'request',
    meta: { permissions: ['usage:own'], parent: 'requests' },
    component: () => import('./RequestPage.vue'),
  },
] satisfies RouteRecordRaw[]

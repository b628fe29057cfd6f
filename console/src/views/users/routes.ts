import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/users',
    name: 'users',
    meta: { permissions: ['users:read'], nav: { group: 'govern', order: 10, icon: 'User' } },
    component: () => import('./UserList.vue'),
  },
] satisfies RouteRecordRaw[]

import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/endpoints',
    name: 'endpoints',
    meta: { permissions: ['endpoints:read'], nav: { group: 'build', order: 10, icon: 'Connection' } },
    component: () => import('./EndpointList.vue'),
  },
  {
    path: '/endpoints/:name',
    name: 'endpoint',
    meta: { permissions: ['endpoints:read'], parent: 'endpoints' },
    component: () => import('./EndpointPage.vue'),
  },
] satisfies RouteRecordRaw[]

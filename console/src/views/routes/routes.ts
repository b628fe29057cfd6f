import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/routes',
    name: 'routes',
    meta: { permissions: ['routes:read'], nav: { group: 'build', order: 20, icon: 'Share' } },
    component: () => import('./RouteList.vue'),
  },
  {
    path: '/routes/new',
    name: 'route-new',
    meta: { permissions: ['routes:write'], parent: 'routes' },
    component: () => import('./RouteEditor.vue'),
  },
  {
    path: '/routes/:name/edit',
    name: 'route-edit',
    meta: { permissions: ['routes:write'], parent: 'routes' },
    component: () => import('./RouteEditor.vue'),
  },
  {
    path: '/routes/:name/:tab(overview|versions|grants|explain)',
    name: 'route',
    meta: { permissions: ['routes:read'], parent: 'routes' },
    component: () => import('./RoutePage.vue'),
  },
  { path: '/routes/:name', redirect: (to) => ({ name: 'route', params: { name: to.params.name!, tab: 'overview' } }) },
] satisfies RouteRecordRaw[]

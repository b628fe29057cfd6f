import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/settings',
    name: 'settings',
    meta: { nav: { group: 'system', order: 10, icon: 'Setting' } },
    component: () => import('./SettingsPage.vue'),
  },
] satisfies RouteRecordRaw[]

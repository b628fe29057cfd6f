import type { RouteRecordRaw } from 'vue-router'

export default [
  { path: '/login', name: 'login', meta: { bare: true }, component: () => import('./LoginPage.vue') },
  { path: '/account', name: 'account', component: () => import('./AccountPage.vue') },
] satisfies RouteRecordRaw[]

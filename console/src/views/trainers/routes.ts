import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/trainers',
    name: 'trainers',
    meta: { permissions: ['training:list'], nav: { group: 'build', order: 70, icon: 'Cpu' } },
    component: () => import('./TrainersPage.vue'),
  },
] satisfies RouteRecordRaw[]

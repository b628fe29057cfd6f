import { type RouteLocationRaw, type RouteRecordRaw, type Router, createRouter, createWebHistory } from 'vue-router'

import { useSession } from '@/stores/session'

declare module 'vue-router' {
  interface RouteMeta {
    /** Who may see the page: any one of these permissions. None: whoever is signed in. */
    permissions?: string[]
    /** No login is needed, and no menu shown. */
    bare?: boolean
    /** Place in the menu: group, then order in it. The name of the route is the key of its text `nav.<name>`. */
    nav?: { group: 'use' | 'build' | 'govern' | 'system'; order: number; icon: string }
    /** Menu entry that a sub-page belongs to. */
    parent?: string
  }
}

const modules = import.meta.glob<RouteRecordRaw[]>('../views/*/routes.ts', { eager: true, import: 'default' })
/** Every page, from the features' own routes.ts. */
export const pages: RouteRecordRaw[] = Object.values(modules).flat()

/** The login page, which leads back to `path`. */
export const toLogin = (path: string): RouteLocationRaw => ({
  name: 'login',
  query: path === '/' || path.startsWith('/login') ? {} : { back: path },
})

/** Whether a page may be seen before the first password was changed: it is where one changes it. */
export const isForNewcomers = (name: unknown): boolean => name === 'welcome' || name === 'account'

export function createConsoleRouter(): Router {
  const router = createRouter({
    history: createWebHistory(),
    routes: [
      ...pages.filter((page) => page.meta?.bare),
      {
        path: '/',
        component: () => import('@/layouts/ConsoleLayout.vue'),
        children: [
          { path: '', redirect: { name: 'overview' } },
          ...pages.filter((page) => !page.meta?.bare),
          { path: ':rest(.*)*', name: 'not-found', component: () => import('@/layouts/NotFound.vue') },
        ],
      },
    ],
  })
  let tried = false
  router.beforeEach(async (to) => {
    const session = useSession()
    if (!session.me && !tried) {
      tried = true
      await session.resume().catch(() => false)
    }
    if (to.meta.bare) return true
    if (!session.me) return toLogin(to.fullPath)
    if (!session.me.must_change_password || isForNewcomers(to.name)) return true
    return { name: router.hasRoute('welcome') ? 'welcome' : 'account' }
  })
  return router
}

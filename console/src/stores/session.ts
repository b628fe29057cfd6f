import { defineStore } from 'pinia'
import { computed, ref } from 'vue'

import { type Me, changePassword, getMe } from '@/api/generated'
import { call } from '@/api/problem'
import * as session from '@/api/session'

/** Who is signed in, and what they may do. */
export const useSession = defineStore('session', () => {
  const me = ref<Me>()
  const permissions = computed(() => new Set(me.value?.permissions))

  /** Whether the role has the permission; the API decides again. */
  const may = (permission: string) => permissions.value.has(permission)

  /** Go on with an earlier login; false if there is none. */
  async function resume(): Promise<boolean> {
    if (!(await session.resume())) return false
    me.value = await call(getMe())
    return true
  }

  async function signIn(username: string, password: string): Promise<void> {
    await session.signIn(username, password)
    me.value = await call(getMe())
  }

  async function setPassword(current: string, next: string): Promise<void> {
    session.useToken((await call(changePassword({ body: { current, new: next } }))).access_token)
    me.value = await call(getMe())
  }

  async function signOut(): Promise<void> {
    await session.signOut()
    me.value = undefined
  }

  return { me, may, resume, signIn, setPassword, signOut }
})

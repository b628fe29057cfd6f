/**
 * The login of this browser. The access token lives in this module only; the refresh token is an HttpOnly cookie that
 * scripts cannot read. A call that is answered 401 is sent once more after a refresh.
 */
import type { InternalAxiosRequestConfig } from 'axios'

import { forgetToken } from './gateway'
import { login, logout, refresh } from './generated'
import { call } from './problem'
import { http } from './setup'

type Config = InternalAxiosRequestConfig & { again?: boolean }

let token = ''
let refreshing: Promise<boolean> | undefined
let ended: () => void = () => {}

/** Say what happens when the login turns out to be over. */
export function onSignedOut(listener: () => void): void {
  ended = listener
}

export async function signIn(username: string, password: string): Promise<void> {
  token = (await call(login({ body: { username, password } }))).access_token
  forgetToken()
}

/** Take an access token that another call has brought, such as a change of the password. */
export function useToken(accessToken: string): void {
  token = accessToken
}

/** Go on with an earlier login, if its cookie is still good. */
export function resume(): Promise<boolean> {
  refreshing ??= alone(async () => {
    try {
      token = (await call(refresh())).access_token
      return true
    } catch {
      token = ''
      return false
    }
  }).finally(() => (refreshing = undefined))
  return refreshing
}

export async function signOut(): Promise<void> {
  await call(logout())
  token = ''
  forgetToken()
}

/** One tab at a time: the refresh cookie is used up by each refresh, and a second use of it would end the login. */
async function alone(work: () => Promise<boolean>): Promise<boolean> {
  if (!navigator.locks) return work() // not on plain http, except on this machine itself
  return await navigator.locks.request('tunegate-refresh', work)
}

const isAuth = (config: Config) => /\/auth\/(login|refresh|logout)$/.test(config.url ?? '')

http.interceptors.request.use((config) => {
  if (token && !isAuth(config)) config.headers.set('Authorization', `Bearer ${token}`)
  return config
})

http.interceptors.response.use(undefined, async (error) => {
  const config = error.config as Config | undefined
  if (error.response?.status !== 401 || !config || isAuth(config) || config.again) throw error
  if (!(await resume())) {
    ended()
    throw error
  }
  config.again = true
  return http.request(config)
})

/** What the generated client is made with. Its paths begin with /api, and the console lies on the same origin. */
import axios from 'axios'

import type { CreateClientConfig } from './generated/client.gen'

export const http = axios.create({ timeout: 30_000 })

export const createClientConfig: CreateClientConfig = (config) => ({
  ...config,
  axios: http,
  baseURL: '',
  // lists as ?by=a&by=b, as the API reads them
  querySerializer: { array: { explode: true, style: 'form' } },
})

import { type Ref, ref } from 'vue'
import { useI18n } from 'vue-i18n'

import { GatewayError } from '@/api/chatStream'
import { models as listModels } from '@/api/gateway'
import { ApiError } from '@/api/problem'

export interface Models {
  /** Names of those that the person may use; absent until the gateway has said so. */
  models: Ref<string[] | undefined>
  /** Why there are none; empty: nothing is wrong. */
  problem: Ref<string>
  load: () => Promise<void>
}

/** The models of the gateway, which is another server than the page's and may be silent. They are not loaded at once. */
export function useModels(): Models {
  const { t } = useI18n()
  const models = ref<string[]>()
  const problem = ref('')

  async function load() {
    problem.value = ''
    try {
      models.value = await listModels()
    } catch (cause) {
      const told = cause instanceof GatewayError && cause.code === 'network' ? t('chat.gatewaySilent') : ''
      problem.value = told || (cause instanceof GatewayError ? cause : ApiError.from(cause)).message
    }
  }

  return { models, problem, load }
}

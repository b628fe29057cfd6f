import { ElMessage, ElMessageBox } from 'element-plus'
import { ref, shallowRef } from 'vue'
import { useI18n } from 'vue-i18n'

import { ApiError } from '@/api/problem'

/** A change that a person asks for: one at a time, told how it ended. */
export function useAction() {
  const { t } = useI18n()
  const busy = ref(false)
  /** Of the last run: for forms, which show `fields` beside their inputs. */
  const problem = shallowRef<ApiError>()

  /** Run it; true if it worked. `done` is the text that says so. */
  async function run(work: () => Promise<unknown>, done?: string): Promise<boolean> {
    if (busy.value) return false
    busy.value = true
    problem.value = undefined
    try {
      await work()
      if (done) ElMessage.success(done)
      return true
    } catch (cause) {
      problem.value = ApiError.from(cause)
      const text = problem.value.code === 'network' ? t('common.noAnswer') : problem.value.message
      ElMessage.error({ message: text, duration: 6000, showClose: true })
      return false
    } finally {
      busy.value = false
    }
  }

  /** Ask first. */
  async function confirm(text: string, action: string): Promise<boolean> {
    try {
      await ElMessageBox.confirm(text, { type: 'warning', confirmButtonText: action, cancelButtonText: t('common.cancel') })
      return true
    } catch {
      return false // the person said no
    }
  }

  return { busy, problem, run, confirm }
}

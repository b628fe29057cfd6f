/** Icons of the menu, by the name that a page's `meta.nav.icon` says. */
import {
  ChatDotRound, Coin, Connection, DataAnalysis, Document, House, Key, Files, Odometer, Setting, Share, User, UserFilled,
} from '@element-plus/icons-vue'
import type { Component } from 'vue'

export const icons: Record<string, Component> = {
  ChatDotRound, Coin, Connection, DataAnalysis, Document, House, Key, Files, Odometer, Setting, Share, User, UserFilled,
}

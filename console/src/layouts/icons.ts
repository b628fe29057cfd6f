/** Icons of the menu, by the name that a page's `meta.nav.icon` says. */
import {
  ChatDotRound, Coin, Connection, Cpu, DataAnalysis, Document, House, Key, Files, MagicStick, Notebook, Odometer, ScaleToOriginal, Setting, Share, Switch, TrendCharts, User, UserFilled,
} from '@element-plus/icons-vue'
import type { Component } from 'vue'

export const icons: Record<string, Component> = {
  ChatDotRound, Coin, Connection, Cpu, DataAnalysis, Document, House, Key, Files, MagicStick, Notebook, Odometer, ScaleToOriginal, Setting, Share, Switch, TrendCharts, User, UserFilled,
}

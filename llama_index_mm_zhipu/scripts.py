"""Scripts, as ranges for regular expressions."""

UNSPACED = "\u2e80-\u2fdf\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
"""Han with its extensions and 〇, kana and hangul: scripts whose words are not set apart."""

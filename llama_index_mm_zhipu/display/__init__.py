"""Plots and HTML galleries of search results and answers."""

from llama_index_mm_zhipu.display.gallery import Gallery, show
from llama_index_mm_zhipu.display.plots import plot_results

__all__ = ["Gallery", "plot_results", "show"]

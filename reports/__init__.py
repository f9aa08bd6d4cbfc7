"""From the files of finished, failed and missing runs to a comparison that says what they show.

Reads only the files a matrix leaves on disk, so a report can be made on a laptop from a copied directory; never
imports torch, transformers or vllm.
"""

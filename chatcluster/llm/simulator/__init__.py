"""A model server that answers by order, for trials and demonstrations."""

"""The shared tree search (paper section 3). Knows nothing of TVM, providers or files: collaborators are protocols."""

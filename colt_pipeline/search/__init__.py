"""The shared tree search (paper section 3). Independent of TVM, providers and files: collaborators are protocols."""

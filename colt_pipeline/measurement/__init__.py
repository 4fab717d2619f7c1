"""What a program is worth: predicted by the cost model, measured by workers, remembered by the ledger."""

"""From the predictions of several folds or runs to one."""

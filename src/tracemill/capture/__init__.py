"""Ways in besides the SDK: files of other programs, the Gepeto tree, batches of bytes."""

"""What every room stands on: params, tables, files, commands, progress, timings."""

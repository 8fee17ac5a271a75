"""What a run looks like: charts (`plots`), moving pictures (`gif`) and the one-file page (`report`).

Pure functions: records in, bytes out. Nothing here opens a window or asks the network.
"""

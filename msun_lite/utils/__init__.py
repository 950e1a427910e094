"""What every room needs and nothing about images or networks: errors, files, options, devices, processes."""

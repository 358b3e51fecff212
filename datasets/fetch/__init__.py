"""Downloads, archives and the addresses of data sets."""

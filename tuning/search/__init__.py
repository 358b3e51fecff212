"""Which configurations a study tries, and which of them go on."""

"""S3: clients, addresses, errors, staging and the conditional write. No ticket is known here."""

"""Other processes that compute for a job, on this computer or on others, through dask."""

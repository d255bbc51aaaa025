//go:build tools

// Package tools pins Kubeflow Trainer and the JobSet that it needs: go.mod can only hold versions of modules that some
// file of this module imports.
package tools

import (
	_ "github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager"
	_ "sigs.k8s.io/jobset"
)
